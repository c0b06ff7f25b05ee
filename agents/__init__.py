"""One agent: its context, its loop, its tools. Knows files and a `Host`; knows no HTTP and starts no server."""
