"""Lists that can be narrowed by customer and status."""

from clocknext_core.operations import optional_limit, optional_text, path_of


def list_path(resource: str, *, customer_id: object, status: object = None, limit: object) -> str:
    """Make the path of a list.

    Raises:
        ValidationError: A filter is not a text, or the limit not an integer of at least 0.
    """
    return path_of(
        resource,
        query={
            "customerId": optional_text("customer_id", customer_id),
            "status": optional_text("status", status),
            "limit": optional_limit(limit),
        },
    )
