"""The coordinator's console: local pages for its own staff, over the same files and functions as the commands.

It is a process of its own. It reads what ``coordinator status``, ``study list``, ``study status`` and ``events`` read,
and its buttons call what ``study pause|retire``, ``release publish|unpublish|revoke``, ``invite``, ``admit`` and
``expel`` call. What takes long (``study run``, ``release create``) is that very command, started by a button: it waits
for its turn like any other, and ends with the console, as a command ends with its terminal.

Promised: it shows what the coordinator knows already, and asks no hospital for more. Words of others (reasons, names)
are shown as they print, and are never markup.

Not promised: that a page is newer than the moment it was made; a study's progress is, once a second.
"""
