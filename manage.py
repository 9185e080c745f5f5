#!/usr/bin/env python
"""Django's command line for the back-office."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "smsactivator.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # For a person to read, who can mend it: where in our code it was noticed helps nobody.
        sys.exit(str(error))
