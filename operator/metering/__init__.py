"""Telling AWS Marketplace how many hours cells have run, for those who bought Kip there."""
