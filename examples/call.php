<?php
// Places a call and looks at it until its end, with what PHP 8 has by itself.
//
//     php examples/call.php 210 5302040 3235742879
//
// RINGBACK_URL and RINGBACK_TOKEN say where the API is and who asks; the demo's without them.

declare(strict_types=1);

/** The status and the JSON of an answer; status 0 without an answer. */
function ask(string $method, string $path, ?array $body = null): array
{
    $token = getenv('RINGBACK_TOKEN') ?: 'demo-user-token';
    $context = stream_context_create(['http' => [
        'method' => $method,
        'header' => ["Authorization: Bearer $token", 'Content-Type: application/json'],
        'content' => $body === null ? '' : json_encode($body, JSON_THROW_ON_ERROR),
        'ignore_errors' => true,
        'timeout' => 30,
    ]]);
    $url = (getenv('RINGBACK_URL') ?: 'http://127.0.0.1:8080') . '/uapi/phoneCalls/@me/' . $path;
    $answer = @file_get_contents($url, false, $context);
    if ($answer === false) {
        return [0, ['error' => ['code' => 'api_unreachable', 'message' => "No answer from $url."]]];
    }
    return [(int) explode(' ', $http_response_header[0])[1], json_decode($answer, true)];
}

/** With a nonce a create may be sent again, and places one call: after a 503, or no answer. */
function place(string $extension, string $source, string $destination): array
{
    $body = [
        'extension' => $extension,
        'nonce' => bin2hex(random_bytes(16)),
        'phoneCallView' => [['source' => $source, 'destination' => $destination]],
    ];
    for ($attempt = 1; ; $attempt++) {
        [$status, $answer] = ask('POST', 'simple?waitForPickup=20', $body);
        if ($status === 200 || $status === 202) {
            return $answer[0];
        }
        if (($status !== 0 && $status !== 503) || $attempt === 5) {
            fwrite(STDERR, "{$answer['error']['code']}: {$answer['error']['message']}\n");
            exit(1);
        }
        usleep(500_000 * $attempt);
    }
}

$id = place($argv[1], $argv[2], $argv[3])['id'];
echo "call $id\n";
$state = null;
while ($state !== 'ended') {
    [$status, $answer] = ask('GET', "@self/$id");
    if ($status !== 200 || !$answer['entry']) {
        fwrite(STDERR, "the call cannot be read: $status\n");
        exit(1);
    }
    $call = $answer['entry'][0];
    if ($call['state'] !== $state) {
        $state = $call['state'];
        echo "$state\n";
    } else {
        usleep(200_000);
    }
}
echo "{$call['hangupCause']}, by {$call['endedBy']}\n";
exit($call['phoneCallView'][0]['disposition'] === 0 ? 0 : 2);
