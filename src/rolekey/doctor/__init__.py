"""Why credentials do not come: the checks behind `rolekey doctor`. Nothing is changed, and no PIN is sent but to sign."""
