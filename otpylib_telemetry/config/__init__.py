"""LiveConfig: layers of values in, settings and changes out."""
