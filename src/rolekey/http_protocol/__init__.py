"""What `rolekey.http_server` starts: two kinds of connection that share their limits (RFC 9112).

`asgi` runs an ASGI application on uvicorn; `responding` calls a plain function, without uvicorn. Both parse with
httptools. They are imported only once a server is made, because uvicorn and httptools are optional; `messages` and
`limited` need neither.
"""
