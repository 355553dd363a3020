#!/bin/sh
# Pin each image of Dockerfile and compose.yml by the digest that its tag has in the registry now.
#
#     sh deploy/digests.sh            # or: make digests
#
# Run it again to move to the newest digests of the same tags.
set -eu
cd "$(dirname "$0")/.."

# Images of others: ours is built here. The tag is what stands before an older digest.
images=$(sed -nE \
    -e 's/^FROM ([a-z0-9./-]+:[A-Za-z0-9._-]+).*/\1/p' \
    -e 's/^ +image: (\$\{FREESWITCH_IMAGE:-)?([a-z0-9./-]+:[A-Za-z0-9._-]+).*/\2/p' \
    Dockerfile compose.yml | sort -u)

for image in $images; do
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
    case $digest in
        sha256:????????????????????????????????????????????????????????????????) ;;
        *)
            echo "digests.sh: no digest of $image" >&2
            exit 1
            ;;
    esac
    for file in Dockerfile compose.yml; do
        sed -E "s#([ -])$image(@sha256:[0-9a-f]{64})?([ }]|\$)#\\1$image@$digest\\3#" "$file" > "$file.new"
        cat "$file.new" > "$file"
        rm "$file.new"
    done
    echo "$image@$digest"
done
