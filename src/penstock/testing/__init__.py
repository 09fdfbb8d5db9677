"""Conformance suites, faults and real servers for the tests of components."""
