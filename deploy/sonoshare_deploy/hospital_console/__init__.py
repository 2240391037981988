"""The hospital's console: local pages for its own staff, over the same functions as the commands.

It is a process of its own. It reads the node's state as ``hospital status``, ``studies``, ``ledger``, ``events``,
``twins`` and ``quarantine`` do, and writes what ``approve``, ``refuse``, ``quarantine accept``, ``quarantine drop`` and
``twins --two-people`` write.
The agent neither knows nor needs it.

Promised: nothing leaves the hospital by it but what the same command would send: a decision about a study and the
reason of a refusal, which the agent tells the coordinator. A revocation is a file that a person carries. No picture is
written to disk, none is kept after it was shown but a comparison that was asked for, in memory, until the process ends.

Not promised: privacy of what it shows. It is for those who may see the hospital's patients.
"""
