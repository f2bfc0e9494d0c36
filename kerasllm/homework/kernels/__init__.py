"""The processes that notebooks run in while they are checked and graded.

`apart` starts processes for each submission, in which `_worker` grades, and
ends everything below them, by means of `_namespaces` and `_resources`.
`_judge` runs two kernels: one for the student's cells (`_kernel`), which
`_sandbox` confines, and one for the tests, which calls the student's functions
through `_remote`. `_lending` replaces wrong functions in later tests.
`_manager` starts kernels.
"""
