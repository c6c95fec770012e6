"""Between the core and the rooms: mailbox, timer, hands that act, desk for the socket."""
