"""The steps of the demonstration. Each ends with claims, judged by what was seen from outside."""
