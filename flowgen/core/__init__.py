"""The pure core: no clock, no I/O, no threads, no asyncio, no logging, no SQL. Everything else drives it."""
