"""Members: the people of a customer, whom signals name by e-mail address.

A known rule: an `employeeId` that another member has is refused with 409. Guesses: so is an e-mail address,
but with 422; fields besides these and the name are stored as sent.
"""

from clocknext_transports.emulator.api.listings import find
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload, Refusal, timestamp
from clocknext_transports.emulator.books.records import Account
from clocknext_transports.emulator.books.validation import Fields

_PATH = "/api/v1/customers/{}/members"
_OWN = frozenset({"id", "customerId", "createdAt"})
"""Fields that the server sets."""


def list_members(books: Books, call: Handled) -> Payload:
    """Return a customer's members, in the order they were added."""
    return Payload({"members": list(books.account(call.ids[0]).members.values())})


def add_member(books: Books, call: Handled) -> Payload:
    """Add a member. Name and e-mail address are required."""
    account = books.account(call.ids[0])
    details = _details(account, call, creating=True)
    member_id = books.fresh_id("mem", account.members)
    account.members[member_id] = {
        "id": member_id,
        "customerId": account.id,
        **details,
        "createdAt": timestamp(call.now),
    }
    return Payload({"member": account.members[member_id]}, 201)


def change_member(books: Books, call: Handled) -> Payload:
    """Change the fields given: `null` clears one, leaving it out leaves it alone."""
    account, member_id = _find(books, call)
    member = {**account.members[member_id], **_details(account, call, but=member_id)}
    account.members[member_id] = member
    return Payload({"member": member})


def remove_member(books: Books, call: Handled) -> Payload:
    """Remove a member."""
    account, member_id = _find(books, call)
    del account.members[member_id]
    return Payload({})


def _find(books: Books, call: Handled) -> tuple[Account, str]:
    customer_id, member_id = call.ids
    account = books.account(customer_id)
    find(account.members, "member", member_id)
    return account, member_id


def _details(
    account: Account, call: Handled, *, creating: bool = False, but: str | None = None
) -> dict[str, object]:
    fields = Fields(call.body)
    if creating:
        fields.require("name", "email")
    fields.text("name")
    email = fields.email("email")
    employee_id = fields.nullable_text("employeeId")
    fields.finish()
    others = [member for found, member in account.members.items() if found != but]
    if any(email == member["email"] for member in others):
        raise Refusal(422, f'Another member of customer "{account.id}" has the address "{email}".')
    if employee_id and any(employee_id == member.get("employeeId") for member in others):
        raise Refusal(409, f'Another member of customer "{account.id}" has the employee id "{employee_id}".')
    return fields.others(_OWN)


ROUTES = (
    Route("GET", _PATH, list_members),
    Route("POST", _PATH, add_member),
    Route("PATCH", f"{_PATH}/{{}}", change_member),
    Route("DELETE", f"{_PATH}/{{}}", remove_member),
)
