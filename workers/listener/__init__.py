"""The listener: it turns the events of a switch into changes of the calls in Redis.

The modules, from the top down; each imports only those below it:

- `leading`: the lease, the take-over, and the loops
- `watchdog`: calls whose deadline has passed
- `reconcile`: compares the calls in Redis with the channels of the switch
- `folding`: collects the events of the calls, and writes them to Redis
- `heard`: reads one event
- `switch_record`: keeps the hash of the switch in Redis true
- `failures`: logs an error, or retries
"""
