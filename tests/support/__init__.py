"""What tests share: rigs, fakes and recorders. Type-checked like the product."""
