// Places a call by an RQ job, from a program that has a Redis client and nothing of Ringback.
//
//   npm install redis
//   node examples/enqueue.mjs 210 5302040 3235742879
//
// The hash is what RQ 3.0 writes for a job: docs/guide/enqueue.md has its fields.

import { randomUUID } from "node:crypto";
import process from "node:process";
import { createClient } from "redis";

const QUEUE = "ringback-requests";

async function enqueue(redis, name, words, id = randomUUID()) {
  const now = new Date().toISOString();
  await redis
    .multi()
    .sAdd("rq:queues", `rq:queue:${QUEUE}`)
    .hSet(`rq:job:${id}`, {
      created_at: now,
      enqueued_at: now,
      origin: QUEUE,
      status: "queued",
      description: name,
      // The function, the object that it is a method of (none), and its arguments.
      data: JSON.stringify([name, null, [], words]),
      // Seconds for which RQ keeps the answer.
      result_ttl: "500",
    })
    .rPush(`rq:queue:${QUEUE}`, id)
    .exec();
  return id;
}

async function answer(redis, id, seconds) {
  const key = `rq:results:${id}`;
  const read = await redis.xRead({ key, id: "0-0" }, { BLOCK: seconds * 1000 });
  if (read === null) throw new Error(`job ${id} has no answer after ${seconds} s`);
  const { type, return_value: value } = read[0].messages.at(-1).message;
  // 1 is RQ's word for a job that finished. Others failed: `ringback queue failed` says why.
  if (type !== "1") throw new Error(`job ${id} failed`);
  return JSON.parse(Buffer.from(value, "base64").toString());
}

const [extension, source, destination] = process.argv.slice(2);
const redis = await createClient({ url: process.env.RINGBACK_REDIS_URL }).connect();
const id = await enqueue(redis, "ringback.place", {
  app: "demo-user",
  token: process.env.RINGBACK_TOKEN ?? "demo-user-token",
  kind: "simple",
  body: { extension, phoneCallView: [{ source, destination }] },
});
const { status, body } = await answer(redis, id, 30);
console.log(status, JSON.stringify(body));
redis.destroy();
process.exitCode = status < 300 ? 0 : 1;
