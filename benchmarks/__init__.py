"""Each claim as a script: us and the peer, or the physical limit, in turns in one process tree."""
