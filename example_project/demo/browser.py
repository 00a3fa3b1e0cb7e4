"""People at their browsers: customers of the shop, and staff at its admin. They see pages, cookies and redirects only."""

import re

import requests

from .processes import DemoError

TIMEOUT = 60  # seconds
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


class Browser:
    """One person's browser on a site; ``site`` is its address without a slash at the end."""

    def __init__(self, site):
        self.site = site
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy between processes of one machine

    def get(self, path):
        """The page; raises ``DemoError`` for anything but a 200."""
        return _good(self.session.get(self.site + path, timeout=TIMEOUT))

    def submit(self, page, path, follow=True, **fields):
        """Sends the form of ``page`` with its CSRF token to ``path``."""
        token = TOKEN.search(page.text)
        if token is None:
            raise DemoError(f"{page.url} has no form")
        data = {"csrfmiddlewaretoken": token[1], **fields}
        return _good(self.session.post(self.site + path, data, timeout=TIMEOUT, allow_redirects=follow))


def _good(response):
    if response.status_code not in (200, 302):
        raise DemoError(f"{response.request.method} {response.url} was answered with {response.status_code}")
    return response


class Customer(Browser):
    """Buys one thing."""

    def buy(self, slug, email, way):
        """Puts the product into the cart, checks out, and returns the page that the browser ends up on: the gateway's.

        ``way`` is one of the checkout's ways to pay.
        """
        cart = self.submit(self.get("/"), f"/cart/add/{slug}/")
        if "/checkout/" not in cart.text:
            raise DemoError(f"the cart at {cart.url} cannot be checked out")
        checkout = self.get("/checkout/")
        if f'value="{way}"' not in checkout.text:
            raise DemoError(f"the checkout does not offer to pay by {way}")
        return self.submit(checkout, "/checkout/", email=email, way=way)


class Staff(Browser):
    """Somebody at the admin."""

    INVOICES = "/admin/crypto_invoices/invoice/"

    def log_in(self, username, password):
        path = f"/admin/login/?next={self.INVOICES}"
        page = self.submit(self.get(path), path, username=username, password=password)
        if not page.url.endswith(self.INVOICES):
            raise DemoError("the staff login was refused")

    def press(self, button, order, **fields):
        """Finds the order's invoice in the list, presses the button, fills in the form. Returns the answer's HTTP status."""
        found = set(re.findall(rf'href="{self.INVOICES}(\d+)/change/', self.get(f"{self.INVOICES}?q={order}").text))
        if len(found) != 1:
            raise DemoError(f"the admin's search for {order} found {len(found)} invoices")
        path = f"{self.INVOICES}{found.pop()}/{button}/"
        return self.submit(self.get(path), path, follow=False, **fields).status_code
