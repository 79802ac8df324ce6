"""The console: web phone and health over HTTP."""
