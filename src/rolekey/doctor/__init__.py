"""The checks behind `rolekey doctor`: why credentials do not come. No PIN is sent but to sign, nothing is changed."""
