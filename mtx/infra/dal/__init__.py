"""infra/dal"""
