"""The page inside another web application."""
