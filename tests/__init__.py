"""Tests, in the folders of what they test; `support` is what several of them need.

The whole system, with cameras and browsers, is tested in e2e/; `test_docs` and `test_house` hold
docs, maps and names to the code.
"""

import pytest

# so that what its asserts compared is told, as it is of tests
pytest.register_assert_rewrite("tests.support")
