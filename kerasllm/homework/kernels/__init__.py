"""The processes that notebooks run in while they are checked and graded.

`_manager` starts them, `_kernel` is the one of a submission, which `_sandbox`
locks in, and `_remote` are the calls from the tests to the submission.
"""
