"""What the shop does when its money is there. Each receiver runs in one transaction with the note that it has run."""

from django.dispatch import receiver
from django.utils import timezone

from crypto_invoices import signals
from crypto_invoices.signals import invoice_paid

from .models import Order, OrderNote, Shipment


@receiver(invoice_paid, dispatch_uid="shop.ship_order")
def ship(sender, *, invoice, event_id, **kwargs):
    order = Order.objects.filter(number=invoice.order_id).first()
    if order is None:
        return  # an invoice that somebody made by hand
    Shipment.objects.create(order=order, event_id=event_id)
    order.status = Order.Status.SHIPPED
    order.shipped_at = timezone.now()
    order.save(update_fields=["status", "shipped_at"])


@receiver(
    [
        signals.invoice_created,
        signals.payment_received,
        signals.invoice_confirming,
        signals.invoice_underpaid,
        signals.invoice_paid,
        signals.invoice_overpaid,
        signals.invoice_paid_late,
        signals.invoice_expired,
        signals.invoice_cancelled,
        signals.invoice_failed,
        signals.invoice_refunding,
        signals.invoice_refunded,
        signals.invoice_reversed,
        signals.invoice_review_required,
    ],
    dispatch_uid="shop.note_signal",
)
def note(sender, *, signal, invoice, event_id, old_status, new_status, **kwargs):
    if order := Order.objects.filter(number=invoice.order_id).first():
        OrderNote.objects.create(order=order, signal=signal.name, event_id=event_id, old_status=old_status, new_status=new_status)
