"""The write ladder: runs each rung of `loadtest.ladder`, measures it and checks its promise."""
