"""``spotwatchd`` and ``spotwatch``: one file per command.

Every module here imports only the standard library when it is loaded, because
``spotwatch run`` works in training environments that have nothing else; what a
command needs beyond that it imports when it is called.
"""
