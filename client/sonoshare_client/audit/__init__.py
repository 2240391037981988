"""Audits of synthetic images on a hospital's patients: in the federation, and of anybody's folder."""
