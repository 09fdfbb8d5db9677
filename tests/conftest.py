pytest_plugins = ["penstock.testing.pytest_plugin"]
