"""Where everything answers."""

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from smsactivator.api import api
from smsactivator.health import healthz

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("healthz", healthz),
]
