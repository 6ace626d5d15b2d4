"""The ASGI application: DJANGO_MODE=async and sync_to_async."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apps.django_app.settings")
application = get_asgi_application()
