echo 'epoch 1/1 loss 0.5'
