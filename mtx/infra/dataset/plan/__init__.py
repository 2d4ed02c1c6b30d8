"""infra/dataset/plan"""
