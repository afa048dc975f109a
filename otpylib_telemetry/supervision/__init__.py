"""Exporters under supervision: one each, or the whole suite."""
