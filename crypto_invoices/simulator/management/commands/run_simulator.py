import ipaddress
import signal
from contextlib import suppress

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from crypto_invoices.simulator.server import Server


class Command(BaseCommand):
    help = "Serve the gateway simulator on a loopback address and deliver its callbacks."

    def add_arguments(self, parser):
        parser.add_argument("addrport", nargs="?", default="127.0.0.1:8001", help="address:port or port (127.0.0.1:8001)")
        parser.add_argument("--migrate", action="store_true", help="bring the database up to date first")

    def handle(self, *args, addrport, migrate, **options):
        host, port = parse_address(addrport)
        if migrate:
            call_command("migrate", interactive=False, verbosity=0)
        try:
            server = Server(host, port)
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from None
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background ignores it
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        shown = f"[{host}]" if ":" in host else host
        with suppress(KeyboardInterrupt):
            self.stdout.write(f"Simulator at http://{shown}:{server.server_port}{reverse('simulator:index')}")
            self.stdout.flush()
            server.run()
        self.stdout.write("Simulator stopped.")


def parse_address(text):
    """(host, port) from "8001", "127.0.0.1:8001", "localhost:8001" or "[::1]:8001"."""
    host, _, port = text.rpartition(":")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host.strip("[]"))
    try:
        ipaddress.ip_address(host)
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise CommandError(f"{text!r} is not a port, or an IP address and a port") from None
    return host, int(port)
