"""infra/dataset"""
