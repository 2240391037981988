"""Pages of a role for its own staff, on this machine alone: what the consoles of hospital and coordinator stand on.

    serve(lambda door: local_app(pages, routes, door), port, announce)

Promised, by the parts named:

- They are served on 127.0.0.1, whatever the machine's other addresses (``serving``).
- A request whose Host is another than that address is refused: a name that an attacker points at 127.0.0.1 (DNS
  rebinding) opens nothing (``guard``).
- Nothing is shown but to the browser that opened the one-time link of the terminal. Its cookie is HttpOnly and
  SameSite=Strict, and is sent below a path that only it knows: other servers on this machine do not receive it, though
  cookies know no ports (``door``).
- Nothing is changed but by a form of these pages: every POST carries the session's own word, and GET changes nothing.
- No script, style or picture from elsewhere; nothing is cached; nothing secret or personal is logged.

Not promised: protection from who can read this process's memory or terminal, or runs as the same user.

Needs starlette, uvicorn and jinja2 (the extras ``client`` and ``server``); the base install imports nothing of it.
"""
