"""Which hosts are this machine."""

import ipaddress

__all__ = ["is_loopback"]


def is_loopback(host):
    """Whether ``host`` is ``localhost`` or a literal of 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
