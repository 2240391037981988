"""The way in for pictures: what the network or an archive gives becomes files of the node's inbox, unread.

Nothing here opens the vault or a key. Pictures are read later, by intake's children.
"""
