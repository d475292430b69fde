"""PKCS#11 (OASIS v2.40): modules, tokens and the objects in them. The one place that knows python-pkcs11."""
