// Places a call and follows it to its end, with what Node.js 18 or newer has: fetch.
//
//     node examples/call.mjs 210 5302040 3235742879
//
// RINGBACK_URL and RINGBACK_TOKEN say where the API is and who asks; the demo's without them.

import {randomUUID} from "node:crypto"
import {setTimeout as sleep} from "node:timers/promises"

const URL = process.env.RINGBACK_URL ?? "http://127.0.0.1:8080"
const TOKEN = process.env.RINGBACK_TOKEN ?? "demo-user-token"
const CALLS = `${URL}/uapi/phoneCalls/@me`

async function ask(method, url, body) {
  const headers = {Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json"}
  const answer = await fetch(url, {method, headers, body: body && JSON.stringify(body)})
  if (answer.ok) return answer
  const {error} = await answer.json()
  throw Object.assign(new Error(`${error.code}: ${error.message}`), {status: answer.status})
}

// With a nonce a create may be sent again, and places one call: after a 503, or no answer at all.
async function place(extension, source, destination) {
  const nonce = randomUUID()
  const body = {extension, nonce, phoneCallView: [{source, destination}]}
  for (let attempt = 1; ; attempt++) {
    try {
      const [call] = await (await ask("POST", `${CALLS}/simple?waitForPickup=20`, body)).json()
      return call
    } catch (error) {
      if ((error.status && error.status !== 503) || attempt === 5) throw error
      await sleep(500 * attempt)
    }
  }
}

// Server-sent events: an empty line ends each.
async function* events(answer) {
  let text = ""
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + part).split("\n\n")
    text = blocks.pop()
    for (const block of blocks) {
      const lines = block.split("\n")
      if (!lines.includes("event: call")) continue
      yield JSON.parse(lines.find(line => line.startsWith("data: ")).slice(6))
    }
  }
}

// The stream first, so that nothing of the call is missed.
const stream = await ask("GET", `${CALLS}/events`)
const call = await place(...process.argv.slice(2))
console.log(`call ${call.id}`)
let state
for await (const event of events(stream)) {
  if (event.id !== call.id) continue
  if (event.state !== state) console.log((state = event.state))
  if (state === "ended") {
    const {hangupCause, endedBy, phoneCallView} = event.phoneCall
    console.log(`${hangupCause}, by ${endedBy}`)
    process.exit(phoneCallView[0].disposition === 0 ? 0 : 2)
  }
}
// A program that runs for long connects again here, with the header Last-Event-ID.
console.error("the stream has ended")
process.exit(1)
