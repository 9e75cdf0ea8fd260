"""Tests of the emulator's page and of the documentation in a real browser, headless Chromium."""
