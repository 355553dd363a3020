"""The listener: it turns the events of a switch into changes of the calls in Redis.

The modules, from the top down; each imports only those below it:

- `leading`: the lease, the take-over, and the loops
- `watchdog`: calls whose deadline has passed
- `reconcile`: what Redis says of the calls, compared with the channels of the switch
- `folding`: what was heard of the calls, on its way to Redis
- `heard`: what is taken from one event
- `switch_record`: what Redis says of the switch itself
- `failures`: how all of these outlast an error
"""
