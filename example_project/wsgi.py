"""The shop, or with ``DJANGO_SETTINGS_MODULE=example_project.simulator_settings`` the gateways that it talks to."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

application = get_wsgi_application()
