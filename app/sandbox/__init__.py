"""A local stand-in of the part of Meta's Graph API that custom audience syncing uses.

Calls flow: server (lifetime) → routes (HTTP) → call (what was asked) → faults (what a test wants to go
wrong) → graph (the API itself) → validation, state, people (what is refused, what is kept).

Its checks are written from the API's documented behaviour alone and share no code with the client, so
that one misreading cannot hide in both.
"""
