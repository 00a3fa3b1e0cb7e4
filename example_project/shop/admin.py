from django.contrib import admin

from .models import Order, OrderLine, OrderNote, Product, Shipment


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0


class ShipmentInline(admin.TabularInline):
    model = Shipment
    extra = 0
    readonly_fields = ["event_id", "created_at"]


class OrderNoteInline(admin.TabularInline):
    model = OrderNote
    extra = 0
    readonly_fields = ["signal", "event_id", "old_status", "new_status", "created_at"]


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["name", "price", "currency"]


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["number", "email", "total", "currency", "way", "status", "created_at", "shipped_at"]
    list_filter = ["status", "way"]
    search_fields = ["number", "email"]
    raw_id_fields = ["invoice"]
    inlines = [OrderLineInline, ShipmentInline, OrderNoteInline]
