"""Behind the door ``spotwatchd.torch``: nothing here is for import by users."""
