"""The chaos harness: real processes under a plan of faults, and a checker of what they leave.

`plan` is what a seed decides; `harness` carries it out with `server`, `fleet` and `monkey`. The workload stands in
`flows`, `more_flows`, `wide_flows`, `message_flows`, `long_flows` and `bodies`, what the world does for it in
`outside`, what it is to come to in `expected`, written without the engine. `witness` is what the processes write down,
`triggers.sql` what the database does, `evidence` all of it; `checker`, `timing`, `ownership`, `leftovers`, `branches`,
`messages` and `audit` are the invariants I1 to I25. `bugs` and `patches` break the engine to see that the harness
notices.
"""
