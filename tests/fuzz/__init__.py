"""Malformed inputs by the thousand: each is either taken and sane, or refused in one sentence."""
