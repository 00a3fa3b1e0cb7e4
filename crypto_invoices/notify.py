"""The default of ``NOTIFY``: a mail to ADMINS when a person has to look."""

from django.core.mail import mail_admins as send_to_admins

__all__ = ["mail_admins"]


def mail_admins(kind, invoice, text):
    """``kind`` is "review", "given_up" or "stalled"; ``invoice`` may be None."""
    subject = f"crypto invoice {invoice.order_id or invoice.uuid}: {kind}" if invoice else f"crypto invoices: {kind}"
    send_to_admins(" ".join(subject.split()), text)
