"""The outbox in PostgreSQL, against a real server: `CLOCKNEXT_TEST_POSTGRES=URL`, or an embedded one."""
