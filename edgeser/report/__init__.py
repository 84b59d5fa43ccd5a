"""One HTML file about a run, or about several: what was measured, what the items look and sound like, how to repeat it.

The file stands alone. It names no other file and no address, runs no script, and says so to the browser by a policy
that forbids both. Pictures are SVG, or PNG within the page; sounds are within it too.
"""
