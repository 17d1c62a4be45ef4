"""Displays: pictures of fitted searches."""
